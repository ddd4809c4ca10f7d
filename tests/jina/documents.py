"""Comparing Documents of docarray 0.21 that went through a service."""


def stripped(doc):
    """A Document's bytes without its embedding."""
    message = doc.to_protobuf()
    message.ClearField('embedding')
    return message.SerializeToString(deterministic=True)


def by_id(docs):
    return {doc.id: doc for doc in docs}


def same_but_embedding(before, after):
    after = by_id(after)
    assert len(after) == len(before)
    for doc in before:
        assert stripped(after[doc.id]) == stripped(doc)

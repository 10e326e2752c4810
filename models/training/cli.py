"""The command line: python -m training.cli train | sweep | evaluate | export | inspect."""

from __future__ import annotations

import argparse
import copy
import json
import shlex
import sys
import time
from pathlib import Path

import numpy as np
import torch
import yaml

from . import data, evaluate, export, restore, train
from .model import Recommender
from .text import TextEncoder, Whitening

ENCODER, CACHE, RUNS = ".freshet/encoder/all-MiniLM-L6-v2", ".freshet/cache", ".freshet/runs"


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    try:
        args.run(args)
    except (ValueError, FileNotFoundError) as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="training", description="Train, evaluate and export bundles that freshet serves.")
    verbs = top.add_subparsers(required=True)
    t = verbs.add_parser("train", help="events (and items) -> a fitted model and its bundle")
    common(t)
    t.add_argument("--out", type=Path, required=True, help="folder of the bundle")
    t.add_argument("--config", type=Path, default=Path(__file__).parent / "configs/default.yaml")
    t.add_argument("--resume", action="store_true", help="go on from the last checkpoint of this run")
    t.add_argument("--init", type=Path, metavar="MODEL.pt|BUNDLE", help="start from the weights of another run on the same file, or of the bundle it left")
    t.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override the config, e.g. train.epochs=5")
    t.add_argument("--seed", type=int, help="overrides train.seed")
    t.add_argument("--quiet", action="store_true")
    t.set_defaults(run=run_train)
    w = verbs.add_parser("sweep", help="a list of variants of one config, each trained and scored on the validation events; the test events stay unread")
    common(w)
    w.add_argument("--config", type=Path, required=True)
    w.add_argument("--grid", type=Path, required=True, help="YAML: for each variant its name and the keys it overrides")
    w.add_argument("--only", nargs="*", help="names of the variants to train")
    w.add_argument("--json", action="store_true", help="a line for each variant")
    w.set_defaults(run=run_sweep)
    e = verbs.add_parser("evaluate", help="the test table of a trained run, beside popularity and transition counts")
    common(e)
    e.add_argument("--model", type=Path, nargs="+", required=True, help="model.pt of a run, or of several that make one bundle")
    e.add_argument("--fuse", type=float, nargs="*", help="also fuse log counts with these weights (choose on --on valid)")
    e.add_argument("--on", choices=("valid", "test"), default="test")
    e.add_argument("--json", action="store_true")
    e.set_defaults(run=run_evaluate)
    x = verbs.add_parser("export", help="one or several models of the same catalogue -> one bundle")
    x.add_argument("--model", type=Path, nargs="+", required=True)
    x.add_argument("--out", type=Path, required=True)
    x.add_argument("--name")
    x.set_defaults(run=run_export)
    i = verbs.add_parser("inspect", help="what a bundle or a file of events holds")
    i.add_argument("path", type=Path)
    i.set_defaults(run=run_inspect)
    return top


def common(p: argparse.ArgumentParser) -> None:
    p.add_argument("--data", type=Path, required=True, help="file of events, any known format, also .gz or .zst")
    p.add_argument("--items", type=Path, help="file of items, for their texts")
    p.add_argument("--split", default="loo", help="loo (hold out each user's last two events) | time:SHARE | all (hold out nothing)")
    p.add_argument("--encoder", type=Path, default=Path(ENCODER), help="folder of the text encoder")
    p.add_argument("--cache", type=Path, default=Path(CACHE), help="folder for encoded texts")
    p.add_argument("--runs", type=Path, default=Path(RUNS), help="folder for checkpoints and TensorBoard logs")


def run_train(args: argparse.Namespace) -> None:
    overrides = args.set + ([f"train.seed={args.seed}"] if args.seed is not None else [])
    config = train.Config.load(args.config, overrides)
    say = (lambda *_: None) if args.quiet else lambda text: print(text, flush=True)
    log, split = read(args, config, say)
    rows = known_rows(split)
    text, whitening, encoder = item_texts(args, config, log, rows, say)
    begin = begin_with(args.init, config, log.items[:rows]) if args.init else None
    results: list[train.Result] = []
    for member in members(config):
        run_dir = args.runs / f"{member.name}-{member.train.seed}"
        results.append(train.fit(member, split, rows, text, run_dir, args.resume, args.quiet, begin))
        bundle = export.Bundle(config.name, log.items[:rows], log.types, config.max_history, note(args, config, split),
                               validated(results), whitening, encoder)  # fmt: skip
        save_model(run_dir / "model.pt", results[-1], member, bundle, split)
    models, epochs = [r.model for r in results], "+".join(str(r.epochs) for r in results)
    if config.model.encoder in export.STEPS:
        manifest = export.export(models, bundle, args.out)
        say(f"bundle {manifest['name']}@{manifest['fingerprint'][:8]} in {args.out}: epochs {epochs}, {folder_size(args.out):,} bytes")
    else:
        say(f"no bundle: the state of encoder {config.model.encoder} grows with the history; epochs {epochs}")
    if split.test is not None and len(split.test) and not args.quiet:
        evaluate.print_table(evaluate.report(models, split, config, rows))


def begin_with(path: Path, config: train.Config, items: list[str]) -> dict[str, torch.Tensor]:
    """The weights of a model.pt or of a bundle with the same items in the same rows."""
    if not path.is_dir():
        return torch.load(path, weights_only=False)["weights"]
    if export.Opened(path).ids != items:
        raise ValueError(f"--init {path}: its items are not those of this file, in their order")
    return restore.weights(path, config.model)


def members(config: train.Config) -> list[train.Config]:
    """The configurations of the models that make the bundle: the same with one seed after the other."""
    out = [copy.deepcopy(config) for _ in range(config.members)]
    for n, member in enumerate(out):
        member.train.seed += n
    return out


def validated(results: list[train.Result]) -> dict[str, float]:
    """What each member reached on validation, on average; their sum is better and not measured here."""
    return {f"val_{k}": round(float(np.mean([r.metrics[k] for r in results])), 5) for k in results[0].metrics}


def run_sweep(args: argparse.Namespace) -> None:
    grid: dict[str, dict] = yaml.safe_load(args.grid.read_text())
    for name in args.only or ():
        if name not in grid:
            raise ValueError(f"--only {name}: {args.grid} has no such variant; it has {', '.join(grid)}")
    for name in args.only or grid:
        config = train.Config.load(args.config, [f"{key}={json.dumps(value)}" for key, value in (grid[name] or {}).items()])
        config.train.valid_share = config.train.valid_share or 0.1
        config.train.validate_every, config.train.refit = config.train.epochs, False  # the epochs are part of the variant
        log, split = read(args, config, lambda *_: None)
        text, _, _ = item_texts(args, config, log, known_rows(split), lambda *_: None)
        began = time.process_time()
        result = train.fit(config, split, known_rows(split), text, quiet=True)
        row = {"variant": name, **{k: round(v, 4) for k, v in result.metrics.items()}, "cpu_seconds": round(time.process_time() - began)}
        print(json.dumps(row) if args.json else "  ".join([f"{name:24s}", *(f"{k} {v}" for k, v in row.items() if k != "variant")]), flush=True)


def read(args: argparse.Namespace, config: train.Config, say) -> tuple[data.Log, data.Split]:
    log, report = data.load(args.data, config.cleaning)
    if not len(log):
        raise ValueError(f"{args.data}: no event is left to learn from: {'; '.join(report.lines())}")
    if config.event_types:
        log = renumber_types(log, config.event_types)
    split = data.split(log, args.split, config.train.valid_share)
    if config.cleaning.hold_items:
        split = data.hold_out(split, config.cleaning.hold_items, config.cleaning.hold_from)
    for line in report.lines() + split.notes:
        say(line)
    return log, split


def renumber_types(log: data.Log, order: list[str]) -> data.Log:
    """Event types numbered as the config lists them, so that bundles of different files agree; others become unknown."""
    names = ["", *order]
    index = np.array([names.index(t) if t in names else 0 for t in log.types])
    log.type, log.types = index[log.type].astype(np.int32), names
    return log


def known_rows(split: data.Split) -> int:
    """Rows of the table: items met before the test begins. Numbers go by first appearance, so on a time split later ones follow."""
    if split.kind != "time":
        return len(split.train.items)
    met = [log.item.max() for log in (split.train, split.valid) if log is not None and len(log)]
    return int(max(met)) + 1


def item_texts(args: argparse.Namespace, config: train.Config, log: data.Log, rows: int, say):
    """Whitened texts of the rows [rows, width], the whitening, and the encoder's note for the manifest."""
    if not config.text:
        return None, None, None
    if args.items is None:
        raise ValueError("the config says text: true; give --items, or --set text=false")
    texts = {i.id: i.text() for i in data.read_items(args.items)}
    encoder = TextEncoder(args.encoder, args.cache, config.train.threads)
    listed = [texts.get(id, "") for id in log.items[:rows]]
    vectors = encoder.encode(listed)
    has = np.array([bool(t) for t in listed])
    say(f"texts of {has.sum():,} of {rows - 1:,} items encoded with {encoder.name}")
    whitening = Whitening.fit(vectors[has])
    white = whitening(vectors)
    white[~has] = 0
    return torch.from_numpy(white), whitening, {"encoder": encoder.name, "sha256": encoder.sha256}


def note(args: argparse.Namespace, config: train.Config, split: data.Split) -> dict:
    """What the manifest says about the training; files by their names, so that no machine's paths leak."""
    shown = [Path(a).name if Path(a).is_absolute() else a for a in sys.argv[1:]]
    learned = split.train if not (config.train.refit and split.valid is not None) else train.merge(split)
    return {"command": "python -m training.cli " + shlex.join(shown), "data_sha256": data.sha256(args.data), "split": args.split,
            "users": len(np.unique(learned.user)), "items": len(np.unique(learned.item)), "events": len(learned), "seed": config.train.seed}  # fmt: skip


def save_model(path: Path, result: train.Result, config: train.Config, bundle: export.Bundle, split: data.Split) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    model = result.model
    torch.save({"weights": model.state_dict(), "config": config, "bundle": bundle, "rows": model.items.rows, "split": split.kind}, path)


def load_model(path: Path) -> tuple[Recommender, dict]:
    saved = torch.load(path, weights_only=False)
    weights = saved["weights"]
    model = Recommender(saved["config"].model, saved["rows"], len(saved["bundle"].event_types), weights.get("items.text"))
    model.load_state_dict(weights)
    return model.eval(), saved


def run_evaluate(args: argparse.Namespace) -> None:
    loaded = [load_model(p) for p in args.model]
    models = [model for model, _ in loaded]
    check_members([saved["bundle"] for _, saved in loaded])
    config, rows = loaded[0][1]["config"], loaded[0][1]["rows"]
    _, split = read(args, config, (lambda *_: None) if args.json else print)
    if args.on == "valid":
        split = data.Split(split.kind, split.train, split.valid.take(np.zeros(0, int)), split.valid)
    table = evaluate.report(models, split, config, rows)
    if args.fuse:
        past = train.merge(split)
        histories = evaluate.Histories(past, split.test, config, rows)
        counts = evaluate.Counts(rows).learn(train.Sequences(past, config.tasks, rows))
        for w in args.fuse:
            table[f"model + {w:g} log counts"] = evaluate.metrics(evaluate.fused_ranks(models, counts, histories, config, w))
    print(json.dumps(table, indent=1)) if args.json else evaluate.print_table(table)


def check_members(bundles: list[export.Bundle]) -> None:
    if any(b.item_ids != bundles[0].item_ids or b.event_types != bundles[0].event_types for b in bundles):
        raise ValueError("these models do not share one catalogue and one list of event types")


def run_export(args: argparse.Namespace) -> None:
    loaded = [load_model(p) for p in args.model]
    bundles = [saved["bundle"] for _, saved in loaded]
    check_members(bundles)
    bundle = bundles[0]
    bundle.name = args.name or bundle.name
    manifest = export.export([m for m, _ in loaded], bundle, args.out)
    print(f"bundle {manifest['name']}@{manifest['fingerprint'][:8]} in {args.out}: {folder_size(args.out):,} bytes")


def run_inspect(args: argparse.Namespace) -> None:
    if args.path.is_dir():
        manifest = export.Opened(args.path).manifest
        print(json.dumps({k: v for k, v in manifest.items() if k != "files"}, indent=1))
        print(f"parity: largest drift {export.verify(args.path):.2g}; {folder_size(args.path):,} bytes")
        return
    log, report = data.load(args.path)
    print("\n".join(report.lines()))
    lengths = np.bincount(log.user)
    print(f"events a user: median {np.median(lengths):.0f}, mean {lengths.mean():.1f}, most {lengths.max():,}")


def folder_size(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.iterdir() if f.is_file())


if __name__ == "__main__":
    sys.exit(main())

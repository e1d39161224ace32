"""The ``dojo`` command. Every verb is a thin face: options in, one function of a lower floor, text or JSON out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dojo.errors import UserError, boundary

if TYPE_CHECKING:
    from dojo.config import Config

QUICKSTART = Path("configs/quickstart.toml")
OVERRIDES = {"allow_extra_args": True, "ignore_unknown_options": True}

app = typer.Typer(
    help="Train coding agents by reinforcement learning in real repositories.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
tasks_app = typer.Typer(help="Tasks: list, validate, make.", no_args_is_help=True, rich_markup_mode=None)
images_app = typer.Typer(help="Docker images for sandboxes: build, list.", no_args_is_help=True, rich_markup_mode=None)
toolbox_app = typer.Typer(help="The toolbox that every sandbox mounts.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(tasks_app, name="tasks")
app.add_typer(toolbox_app, name="toolbox")
app.add_typer(images_app, name="images")

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout, nothing else.")]
Unsafe = Annotated[
    bool, typer.Option("--unsafe-local", help="Let the local backend run a model's commands without confinement.")
]
ConfigFile = Annotated[Path, typer.Argument(help="TOML file; any key may be overridden: --section.key value.")]


@app.command(context_settings=OVERRIDES)
def train(
    context: typer.Context,
    config: Annotated[Path | None, typer.Argument(help="TOML file; override any key: --section.key value.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Continue this run folder where it stopped.")] = None,
    out: Annotated[Path, typer.Option(help="Folder that holds the run folders.")] = Path("runs"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved config and exit.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Print what memory and time it will take, and exit.")] = False,
    unsafe_local: Unsafe = False,
) -> None:
    """Train a policy: evaluate, warm start, GRPO, evaluate, report."""
    if resume is not None:
        from dojo.build import resumed

        settings, folder = resumed(resume, config, context.args)
    else:
        settings, folder = _config(config or QUICKSTART, context.args), None
    settings = _unsafe(settings, unsafe_local)
    if dry_run:
        typer.echo(settings.to_toml(), nl=False)
        return
    if plan:
        from dojo.scale import plan as planned

        text, fits = planned(settings)
        typer.echo("\n".join(text))
        raise SystemExit(0 if fits else 1)
    from dojo import verbs

    verbs.train(settings, folder, out, (config or QUICKSTART).stem)


@app.command(context_settings=OVERRIDES)
def sft(
    context: typer.Context,
    source: Annotated[list[Path], typer.Option("--from", help="Run folder or trajectory file; repeat for several.")],
    config: ConfigFile = QUICKSTART,
    outcome: Annotated[list[str] | None, typer.Option(help="Outcome to learn from; tests_pass by default.")] = None,
    per_task: Annotated[int, typer.Option(help="At most so many episodes of a task, the shortest ones.")] = 4,
    out: Annotated[Path, typer.Option(help="Folder for the result.")] = Path("runs/sft"),
) -> None:
    """Learn from stored trajectories (rejection sampling); leaves a model folder that model.name can name."""
    from agent.trajectory import Outcome
    from dojo.sft import sft as learn

    wanted, known = outcome or ["tests_pass"], [name.value for name in Outcome if name is not Outcome.INFRA]
    if unknown := [name for name in wanted if name not in known]:
        raise UserError(f"there is no outcome '{unknown[0]}'; there are {', '.join(known)}")
    learn(_config(config, context.args), source, wanted, per_task, out)


@app.command(context_settings=OVERRIDES)
def rollout(
    context: typer.Context,
    config: ConfigFile = QUICKSTART,
    policy: Annotated[str, typer.Option(help="model, a checkpoint folder, or scripted:NAME.")] = "scripted:gold",
    task: Annotated[list[str] | None, typer.Option(help="instance_id; repeat for several.")] = None,
    split: Annotated[str, typer.Option(help="train or heldout, when no task is named.")] = "train",
    limit: Annotated[int, typer.Option(help="Play at most so many tasks.")] = 8,
    samples: Annotated[int, typer.Option(help="Episodes of each task.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Append the trajectories to this JSONL file.")] = None,
    json: Json = False,
    unsafe_local: Unsafe = False,
) -> None:
    """Play and grade episodes without training."""
    from dojo import verbs

    settings = _unsafe(_config(config, context.args), unsafe_local)
    verbs.rollout(settings, policy, task or [], split, limit, samples, out, json)


@app.command("eval", context_settings=OVERRIDES)
def evaluate(
    context: typer.Context,
    config: ConfigFile = QUICKSTART,
    policy: Annotated[str, typer.Option(help="model, a checkpoint or run folder, or scripted:NAME.")] = "model",
    out: Annotated[Path | None, typer.Option(help="Append the trajectories to this JSONL file.")] = None,
    json: Json = False,
    unsafe_local: Unsafe = False,
) -> None:
    """Evaluate a policy on the held-out tasks: the four outcome rates with 95 % intervals clustered by task."""
    from dojo import verbs

    verbs.evaluate(_unsafe(_config(config, context.args), unsafe_local), policy, out, json)


@app.command()
def replay(
    run: Annotated[Path, typer.Argument(help="A run folder or a trajectory file.")],
    rewards: Annotated[
        Path | None, typer.Option(help="Score under this reward config (default: the run's own).")
    ] = None,
    json: Json = False,
) -> None:
    """Score stored trajectories again, exactly, without model, docker or language server."""
    from dojo.replay import replay as again

    again(run, rewards, json)


@app.command()
def view(
    run: Annotated[Path, typer.Argument(help="A run folder or a trajectory file.")],
    key: Annotated[
        str | None, typer.Argument(help="Key of one trajectory (seed-step-prompt-sample) or an instance_id.")
    ] = None,
    limit: Annotated[int, typer.Option(help="List at most so many.")] = 20,
) -> None:
    """Show stored trajectories: a list, or one of them turn by turn."""
    from dojo import verbs

    verbs.view(run, key, limit)


@app.command()
def score(
    matrix: Annotated[Path, typer.Argument(help="JSON file with a group as plain data.")],
    rewards: Annotated[Path, typer.Option(help="Reward config (TOML).")],
    json: Json = False,
) -> None:
    """Score a group given by hand: what each critic, the gate and the baseline make of it."""
    from dojo import verbs

    verbs.score(matrix, rewards, json)


@app.command()
def doctor(
    sandbox: Annotated[str | None, typer.Option(help="Run the self-check of this backend (docker or local).")] = None,
    json: Json = False,
) -> None:
    """Say what works on this machine, and what to install for the rest."""
    from dojo.doctor import report

    raise SystemExit(report(sandbox, json))


@tasks_app.command("list")
def tasks_list(
    rows: Annotated[str, typer.Argument(help="Name of a shipped set or a JSONL file.")] = "starter",
    split: Annotated[str | None, typer.Option(help="train or heldout.")] = None,
    level: Annotated[str | None, typer.Option(help="starter or standard.")] = None,
    json: Json = False,
) -> None:
    """List tasks."""
    from dojo import verbs

    verbs.tasks_list(rows, split, level, json)


@tasks_app.command("validate")
def tasks_validate(
    rows: Annotated[str, typer.Argument(help="A shipped set, a JSONL file, or a file of release pairs.")] = "starter",
    task: Annotated[list[str] | None, typer.Option(help="Only this instance_id; repeat for several.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first n.")] = None,
    backend: Annotated[str, typer.Option(help="auto, docker or local.")] = "auto",
    repos: Annotated[Path | None, typer.Option(help="Folder with clones, for rows of SWE-bench.")] = None,
    json: Json = False,
    unsafe_local: Unsafe = False,
) -> None:
    """Grade the gold patch (must be 1) and the empty patch (must be 0) of each task."""
    from dojo import verbs

    raise SystemExit(verbs.tasks_validate(rows, task or [], limit, backend, repos, json, unsafe_local))


@tasks_app.command("make")
def tasks_make(
    out: Annotated[Path, typer.Argument(help="Folder for the rows.")],
    package: Annotated[list[str] | None, typer.Option(help="Only this package of the pinned list; repeat.")] = None,
) -> None:
    """Make tasks: pinned sources, one injected fault each, validated by their real test suites."""
    from dojo import verbs

    verbs.tasks_make(out, package or [])


@images_app.command("build")
def images_build(
    suite: Annotated[str, typer.Argument(help="Debian release: bookworm, bullseye or trixie.")] = "bookworm",
) -> None:
    """Make an image without a registry (debootstrap and docker import), else from a Dockerfile."""
    from sandbox import images

    if suite not in images.SUITES:
        raise UserError(f"there is no recipe for '{suite}'; there are {', '.join(images.SUITES)}")
    typer.echo(f"image {images.build(f'{images.FAMILY}:{suite}')} is ready")


@toolbox_app.command("build")
def toolbox_build(json: Json = False) -> None:
    """Make the toolbox of this environment, unless it is there: interpreter, editor, language server."""
    from sandbox import toolbox

    folder = toolbox.build()
    typer.echo(toolbox.described(folder, as_json=json))


@images_app.command("list")
def images_list(json: Json = False) -> None:
    """List the images that sandboxes can use."""
    from dojo import verbs

    verbs.images_list(json)


def _config(path: Path, overrides: list[str]) -> Config:
    from dojo.config import load

    if str(path).startswith("--"):  # an override where the file could stand
        path, overrides = QUICKSTART, [str(path), *overrides]
    return load(path, overrides)


def _unsafe(config: Config, unsafe_local: bool) -> Config:
    if not unsafe_local:
        return config
    return config.model_copy(update={"sandbox": config.sandbox.model_copy(update={"unsafe_local": True})})


def main() -> None:
    """Entry point: usage errors are Typer's own, everything else leaves through the boundary."""
    with boundary():
        try:
            app()
        except ImportError as error:
            raise UserError(
                f"'{error.name}' is not installed in {sys.prefix}; this verb needs: pip install 'repodojo[train]'"
            ) from error

"""`dialgraph chat`: a call in the terminal."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from server.cli.playback import Playing, WavFile, player, writable


def chat(
    graph: Annotated[str, typer.Argument(help="The name of the endpoint. Default: the first one.")] = "",
    say: Annotated[str, typer.Option(help="Say this, then exit after the answer.")] = "",
    listen: Annotated[
        bool, typer.Option("--listen", help="Play the answers. Without a player, save them as call.wav.")
    ] = False,
    save: Annotated[Path | None, typer.Option(help="Save the answers as this WAV file.")] = None,
    show_prompt: Annotated[bool, typer.Option("--show-prompt", help="Show what each model is sent.")] = False,
) -> None:
    """Talk to an endpoint. Shows its words as they arrive, its tool calls, and the time of each step."""
    from dialgraph.services.services import OpenServices
    from server.endpoints import open_names
    from server.logs import set_up_logging
    from server.settings import load_settings

    set_up_logging("error")
    endpoint = _endpoint(graph)
    services = OpenServices(load_settings())
    open_names({endpoint.spec.name: endpoint}, services)
    command = player()
    ear: Playing | WavFile | None = None
    if listen and command is not None and save is None:
        ear = Playing(command)
    elif listen or save is not None:
        path = save or Path("call.wav")
        writable(path)
        ear = WavFile(path)
    if not asyncio.run(_converse(endpoint.graph, services, say, ear, show_prompt=show_prompt)):
        raise typer.Exit(1)


def _endpoint(name: str) -> Any:
    """Return the endpoint of this name. Without a name: `rag`, or else the first one that has no mistake."""
    from dialgraph.graph.errors import GraphError
    from dialgraph.project import langgraph_file
    from server.endpoints import endpoint_named, try_endpoints

    if name:
        return endpoint_named(name)
    endpoints, mistakes = try_endpoints(langgraph_file())
    lines = "\n".join(dict.fromkeys(line for lines in mistakes.values() for line in lines))
    if not endpoints:
        raise GraphError(lines)
    if lines:
        typer.echo(lines, err=True)
    return endpoints.get("rag") or next(iter(endpoints.values()))


async def _converse(graph: Any, services: Any, say: str, ear: Playing | WavFile | None, *, show_prompt: bool) -> bool:
    """Run the call. Return whether every turn was answered."""
    from rich.console import Console

    from dialgraph.graph.places import failure_of
    from dialgraph.records.records import Records
    from server.cli.prompt_printer import PromptPrinter

    console = Console(highlight=False)
    records = Records(services.settings)
    messages: list[dict[str, object]] = []
    answered = True
    try:
        while question := say or await _ask(console):
            messages.append({"role": "user", "content": question})
            try:
                watchers = (PromptPrinter(console),) if show_prompt else ()
                answer, hung_up = await _turn(graph, services, records, messages, console, ear, watchers)
            except Exception as error:  # noqa: BLE001 (a node may raise anything, and its author sits here)
                console.print()
                console.print(failure_of(error), style="red", markup=False, soft_wrap=True)
                answer, hung_up, answered = "", False, False
            messages.append({"role": "assistant", "content": answer})
            if say or hung_up:
                break
    finally:
        await services.aclose()
        await asyncio.to_thread(records.close)
        if isinstance(ear, WavFile):
            ear.close()
            if ear.seconds:
                console.print(f"[dim]{ear.path}: {ear.seconds:.1f} s[/dim]")
    return answered


async def _recorded(events: Any, recorder: Any, turn: Any, graph: Any, records: Any) -> Any:
    """Pass on the events of a turn, and store its record when it is over."""
    from dialgraph.environment import REAL
    from dialgraph.records.recorder import local_end, outcome_of

    failure: BaseException | None = None
    try:
        async for event in events:
            yield event
    except BaseException as error:
        failure = error
        raise
    finally:
        if recorder is not None:
            end = local_end(turn.times, outcome_of(failure), REAL.now())
            records.over(recorder, end, turn.times.started, graph.version, graph.outlets.private_words)


async def _ask(console: Any) -> str:
    if sys.stdin.isatty():
        console.print("[bold]you[/bold]  ", end="")
    line: str = await asyncio.to_thread(sys.stdin.readline)
    return line.strip()


async def _turn(
    graph: Any,
    services: Any,
    records: Any,
    messages: list[dict[str, object]],
    console: Any,
    ear: Playing | WavFile | None,
    watchers: Sequence[Any],
) -> tuple[str, bool]:
    from dataclasses import replace

    from dialgraph.environment import REAL
    from dialgraph.run.run import run_turn
    from dialgraph.turn.call import CallInfo
    from dialgraph.turn.events import Action, Audio, Fallback, Filler, Say, Timing, ToolCallPart, Transcript
    from dialgraph.turn.node import Turn
    from dialgraph.turn.request import TurnRequest

    heard = {"modalities": ["text", "audio"], "audio": {"format": "wav"}} if ear is not None else {}
    call = CallInfo(id="terminal", principal="terminal")
    # Sound for a file does not need to be streamed.
    asked = TurnRequest(messages, heard, call, streaming=not isinstance(ear, WavFile))
    words: list[str] = []
    steps: list[str] = []
    hung_up, sound = False, 0
    asked = replace(asked, endpoint=graph.spec.name)
    memory = graph.spec.policy.memory
    recorder = records.recorder(asked, REAL, memory.private if memory else ())
    turn = recorder.turn(services) if recorder else Turn(services, asked)
    turn.watch(*watchers)
    async for event in _recorded(run_turn(graph, turn), recorder, turn, graph, records):
        match event:
            case Say(text=text) | Transcript(text=text) | Fallback(text=text):
                words.append(text)
                console.print(text, end="", markup=False, soft_wrap=True)
            case Audio(data=data):
                sound += len(data)
                if ear is not None:
                    await ear.hear(data)
            case Filler(text=text):
                console.print(text, end="", markup=False, soft_wrap=True)
            case Action(kind=kind, arguments=arguments):
                hung_up = kind != "digits"
                told = arguments.get("number") or arguments.get("digits") or ""
                console.print(f"\n[yellow]→ {kind} {told}[/yellow]", end="", highlight=False)
            case ToolCallPart(name=name) if name:
                console.print(f"\n[yellow]→ {name}(…)[/yellow]", end="")
            case Timing(step=step, started_ms=started, ended_ms=ended, outcome=outcome):
                steps.append(f"{step} {ended - started:.1f} ms" + ("" if outcome == "ok" else f" ({outcome})"))
    length = f" · {sound / 32_000:.1f} s of sound" if sound else ""
    console.print(f"\n[dim]{' · '.join(steps)}{length}[/dim]", soft_wrap=True)
    if ear is not None:
        await ear.end()
    return "".join(words), hung_up

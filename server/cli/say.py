"""`dialgraph say`: write a text, spoken by a voice, into a WAV file."""

import asyncio
import wave
from pathlib import Path
from typing import Annotated, Any

import typer


def say(
    text: Annotated[str, typer.Argument(help="The text to speak.")],
    voice: Annotated[str, typer.Option(help="The name of a voice in the settings.")] = "main",
    speaker: Annotated[str, typer.Option(help="A speaker of that voice, such as `nova`.")] = "",
    output: Annotated[Path, typer.Option(help="The WAV file to write.")] = Path("say.wav"),
) -> None:
    """Speak a text with a voice of the settings, into a WAV file."""
    from dialgraph.services.services import OpenServices
    from server.cli.playback import writable
    from server.logs import set_up_logging
    from server.settings import load_settings

    set_up_logging("error")
    if not any(map(str.isalnum, text)):
        raise typer.BadParameter("The text must contain a letter or a digit.")
    writable(output)
    seconds = asyncio.run(_say(OpenServices(load_settings()), text, voice, speaker, output))
    typer.echo(f"{output}: {seconds:.1f} s")


async def _say(services: Any, text: str, voice: str, speaker: str, output: Path) -> float:
    """Write the file, sentence by sentence as in a call. Return its length in seconds."""
    from dialgraph.language.spoken import SentenceCutter
    from dialgraph.speech.port import refuse_unknown

    try:
        engine = services.voice(voice)
        refuse_unknown(voice, engine, speaker)
        cutter = SentenceCutter()
        sentences = [*cutter.push(text), cutter.rest()]
        samples = 0
        with wave.open(str(output), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(engine.sample_rate)
            for sentence in filter(str.strip, sentences):
                async for sound in engine.speak(sentence.strip(), speaker):
                    file.writeframes(sound.pcm)
                    samples += len(sound.pcm) // 2
        return float(samples / engine.sample_rate)
    finally:
        await services.aclose()

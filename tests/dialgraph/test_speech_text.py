"""How text is prepared for a voice: markup, thoughts, numbers, and words that must not be said."""

import random
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dialgraph.graph.compile import compile_graph
from dialgraph.graph.errors import GraphError
from dialgraph.graph.policy import GuardRule, Policy
from dialgraph.graph.spec import END, Graph, Step
from dialgraph.language.guard import Guard, Rule, find_cards, find_identity_numbers, find_phone_numbers, find_words
from dialgraph.language.numbers import NumberReader, Numbers
from dialgraph.language.speakable import Speakable, speakable
from dialgraph.turn.node import State, Turn, Update, node
from dialgraph.turn.text_outlet import Stage
from tests.support.serving import add_graphs, serving
from tests.support.upstream import Action, calls, says, upstream
from tests.support.wire import read_stream

SPOKEN = {
    "**Hello** _there_, *you*!": "Hello there, you!",
    "# Title\n\n- one\n- two\n\n1. first": "Title\none\ntwo\n1. first",
    "See [the page](https://x.y/z) [1].": "See the page .",
    "Look at https://example.com/a?b=c. Then ask.": "Look at . Then ask.",
    "请看https://a.cn/b?c，谢谢": "请看，谢谢",
    "<think>Hmm, secret.</think>Yes.": "Yes.",
    "<THINKING>a\nb</thinking> Yes.": "Yes.",
    "Before\n```python\nprint(1)\n```\nafter": "Before\nafter",
    "Run `make` now": "Run make now",
    "| a | b |\n|---|---|\n| 1 | **2** |\nend": "a, b\n1, 2\nend",
    "Hi 😀 there 👩‍🚀! 1️⃣": "Hi there ! 1",
    "3 * 4, 3*4, snake_case, ~5 and ~~gone~~": "3 * 4, 3*4, snake case, ~5 and gone",
    "a < b &amp; c<br>d": "a < b & cd",
    "---\ntext\n> quote": "text\nquote",
    "引用【4:0†source】和【重点】**加粗**。": "引用和【重点】加粗。",
    r"\*not\*": "*not*",
    "Who, what, when; how? http is a word.": "Who, what, when; how? http is a word.",
}


@pytest.mark.parametrize("written", SPOKEN)
def test_written_text_becomes_speakable_text(written: str) -> None:
    assert speakable(written) == SPOKEN[written]


def in_pieces(stage: Stage, text: str, cuts: random.Random) -> str:
    """Pass the text through a stage in random pieces, and return the result."""
    said, at = "", 0
    while at < len(text):
        end = at + cuts.randint(1, 6)
        said += stage.push(text[at:end])
        at = end
    return said + stage.flush()


WRITTEN = st.lists(
    st.sampled_from(
        [*SPOKEN, " ", "\n", "word", "你好", "*", "`", "[", "](", "<", "http", "|", "_", "&am", "\\", "👍"]
    ),
    max_size=8,
)


@settings(max_examples=500, deadline=None)
@given(WRITTEN, st.randoms(use_true_random=False))
def test_text_in_pieces_gives_the_same_result_as_whole_text(parts: list[str], cuts: random.Random) -> None:
    text = "".join(parts)
    assert in_pieces(Speakable(), text, cuts) == speakable(text)


def test_plain_text_is_never_held_back() -> None:
    stage = Speakable()
    for piece in [
        "Well",
        ",",
        " how",
        " are",
        " you",
        " today",
        "?",
        " 很好",
        "，",
        "谢谢",
        " It's",
        " 5",
        " o'clock",
        "!",
    ]:
        assert stage.push(piece) == piece
    assert stage.flush() == ""


READ = {
    "It costs $19.99 plus 5%.": "It costs nineteen dollars and ninety nine cents plus five percent.",
    "It is -3°C and 3.5 km away.": "It is minus three degrees Celsius and three point five kilometers away.",
    "We meet on 2026-11-21.": "We meet on November 21, 2026.",
    "Call +49 30 123456.": "Call plus four nine, three zero, one two three four five six.",
    "每晚¥128.50，折扣10%。": "每晚一百二十八点五零元，折扣百分之十。",
    "电话是13800138000，22:05开门。": "电话是幺三八零零幺三八零零零，二十二点零五分开门。",
    "2026-11-21见。": "二零二六年十一月二十一日见。",
}
LEFT_ALONE = [
    "GPT-4 is 10-15% faster.", "Room 204, flight CA1234.", "From $5-$10.", "192.168.1.1 and 1.2.3.",
    "The code is 0042.", "In 1999.", "1/2 and 24/7.", "02/03/2026", "¥5万", "版本3.11", "3-5天", "2026-13-45",
]  # fmt: skip


@pytest.mark.parametrize("written", READ)
def test_numbers_become_the_words_that_a_voice_says(written: str) -> None:
    reader = NumberReader()
    for seed in range(20):
        assert in_pieces(Numbers(reader), written, random.Random(seed)) == READ[written]


def test_numbers_with_two_readings_stay_as_they_are() -> None:
    reader = NumberReader()
    for written in LEFT_ALONE:
        assert Numbers(reader).push(written + " ") + "" in (written + " ", "") and reader.read(written) == written


@pytest.mark.parametrize(
    ("sentence", "found"),
    [
        ("My card is 4111 1111 1111 1111.", "cards"),
        ("卡号4111111111111111。", "cards"),
        ("身份证11010519491231002X。", "identity"),
        ("SSN 078-05-1120.", "identity"),
        ("Call 13800138000.", "phones"),
        ("Call +49 30 123456 now.", "phones"),
        ("Call (212) 555-0100.", "phones"),
        ("拨打400-800-1234。", "phones"),
        ("Order 4111 1111 1111 1112 is 1234.", ""),
        ("110105194912310021", ""),
        ("From 2026-11-21, 1,299 pieces at 3.14.", ""),
    ],
)
def test_card_identity_and_phone_numbers_are_found(sentence: str, found: str) -> None:
    finders = {"cards": find_cards, "identity": find_identity_numbers, "phones": find_phone_numbers}
    hits = {name for name, find in finders.items() if find(sentence)}
    assert hits == ({found} if found else set())


def test_words_are_found_whole_in_english_and_anywhere_in_chinese() -> None:
    find = find_words(["ass", "笨蛋"])
    assert [find(text) for text in ("class pass", "an Ass!", "你是笨蛋吗", "笨重")] == [[], [(3, 6)], [(2, 4)], []]


MARKDOWN: list[Action] = says(
    "<think>They want", " a price.</think>", "**Sure", "!** It is ", "[here](http", "://x.y) 😀", "."
)


async def test_voice_profiles_get_no_markup_and_openai_gets_all_of_it(tmp_path: Path) -> None:
    reasoning: Action = ("delta", {"reasoning_content": "secret thoughts"})
    async with upstream(default=[reasoning, *MARKDOWN]) as up, serving(tmp_path, models={"main": up.url}) as served:
        body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
        spoken = read_stream((await served.post("/chat/completions", body, {"x-dialgraph-profile": "agora"})).body)
        plain = read_stream((await served.post("/chat/completions", body)).body)
    assert spoken.text == "Sure! It is here ." and spoken.reasoning == ""
    assert "<think>" in plain.text and "**Sure!**" in plain.text and plain.reasoning == "secret thoughts"


async def test_an_endpoint_can_guard_its_words_with_its_own_check(tmp_path: Path) -> None:
    rules = (
        GuardRule(find="cards", instead="a card number"),
        GuardRule(find="words", words=("Acme",), action="replace", instead={"en": "I cannot say.", "zh": "我不能说。"}),
        GuardRule(find="phone_numbers", action="block"),
        GuardRule(find="check", check="shout"),
    )
    spec = Graph(name="guarded", steps=(Step("call_model", then=END),), policy=Policy(guard=rules))

    def shout(sentence: str) -> str | None:
        return None if "secret" in sentence else sentence.replace("fine", "FINE")

    script = says(
        "It is 4111 1111", " 1111 1111. Buy", " from Acme now. 找Acme。", "Call 13800138000. A se", "cret. All fine."
    )
    async with upstream(default=script) as up, serving(tmp_path, models={"main": up.url}) as served:
        add_graphs(served.app, compiled=[(spec, compile_graph(spec, checks={"shout": shout}))])
        answer = read_stream((await served.ask("hi", "/guarded/chat/completions")).body)
    assert answer.text == "It is a card number. I cannot say. 我不能说。All FINE."


@pytest.mark.parametrize(
    ("rule", "heard"),
    [
        (GuardRule(find="phone_numbers", action="block"), "I am sorry, something went wrong on my side."),
        (GuardRule(find="phone_numbers", action="block", instead="I may not give numbers."), "I may not give numbers."),
        (GuardRule(find="check", check="never"), "I am sorry, something went wrong on my side."),
    ],
)
@pytest.mark.parametrize("profile", ["openai", "agora"])
async def test_a_guard_that_drops_everything_does_not_leave_the_caller_in_silence(
    tmp_path: Path, rule: GuardRule, heard: str, profile: str
) -> None:
    spec = Graph(name="guarded", steps=(Step("call_model"),), policy=Policy(guard=(rule,)))
    async with upstream(default=says("Call 13800138000.")) as up:
        async with serving(tmp_path, models={"main": up.url}) as served:
            add_graphs(served.app, compiled=[(spec, compile_graph(spec, checks={"never": lambda sentence: None}))])
            host = {"x-dialgraph-profile": profile}
            body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
            answer = read_stream((await served.post("/guarded/chat/completions", body, host)).body)
    assert answer.text.startswith(heard) and answer.error is None


async def test_a_dropped_sentence_before_others_is_only_dropped(tmp_path: Path) -> None:
    rule = GuardRule(find="phone_numbers", action="block")
    spec = Graph(
        name="guarded",
        steps=(Step("call_model", then={"answered": END, "hangup": "hangup"}), Step("hangup", options={"say": "Bye."})),
        policy=Policy(guard=(rule,)),
    )
    async with upstream(
        [("chunk", "Call 13800138000."), *calls("hangup")], says("Call 13800138000. I can help.")
    ) as up:
        async with serving(tmp_path, models={"main": up.url}) as served:
            add_graphs(served.app, compiled=[(spec, compile_graph(spec))])
            goodbye = read_stream((await served.ask("bye", "/guarded/chat/completions")).body)
            answer = read_stream((await served.ask("hi", "/guarded/chat/completions")).body)
    assert (goodbye.text, answer.text) == ("Bye.", "I can help.")


def test_a_guard_without_its_check_or_words_is_refused() -> None:
    rules = (GuardRule(find="check", check="shuot"), GuardRule(find="words"))
    spec = Graph(name="g", steps=(Step("call_model"),), policy=Policy(guard=rules, profile="agroa"))
    with pytest.raises(GraphError) as told:
        compile_graph(spec, checks={"shout": str})
    assert "unknown check 'shuot'. Accepted: 'shout'" in str(told.value)
    assert "needs `words`" in str(told.value) and "Did you mean 'agora'?" in str(told.value)


async def test_only_the_answer_is_spoken(tmp_path: Path) -> None:
    """Run two silent steps before the answer. LiveKit's own LangGraph adapter would speak their output too."""

    @node(writes="route", routes=("question",))
    async def classify(state: State, turn: Turn) -> Update:
        """Ask a model to classify the question, silently."""
        from contextlib import aclosing

        from dialgraph.models.port import ChatRequest

        request = ChatRequest(messages=turn.messages)
        async with aclosing(turn.services.model("main").stream(request, turn.stack)) as parts:
            async for _ in parts:
                pass
        return {"route": "question"}

    @node(writes="question")
    async def rewrite(state: State, turn: Turn) -> Update:
        """Put the question in other words, silently."""
        return {"question": "opening hours"}

    spec = Graph(
        name="silent",
        steps=(
            Step("classify", then={"question": "rewrite"}),
            Step("rewrite"),
            Step("retrieve"),
            Step("rewrite_messages"),
            Step("call_model"),
        ),
    )
    async with upstream(says("QUESTION"), says("We open at seven.")) as up:
        async with serving(tmp_path, (spec, [classify, rewrite]), models={"main": up.url}) as served:
            answer = read_stream((await served.ask("When?", "/silent/chat/completions")).body)
    assert answer.text == "We open at seven." and len(up.exchanges) == 2


CARD = "4111 1111 1111 1111"


@pytest.mark.parametrize(
    "said",
    [
        CARD.replace(" ", "\u00a0"), CARD.replace(" ", "\u202f"), CARD.replace(" ", "\u2011"), CARD.replace(" ", " - "),
        CARD.replace(" ", ", "), CARD.replace(" ", "."), "4111 **1111** 1111 1111", "4111\u200b 1111 1111 1111",
        "４１１１ 1111 1111 1111", "sword*fish*", "sword\u200bfish",
    ],
)  # fmt: skip
@pytest.mark.parametrize("profile", ["openai", "agora"])
async def test_disguised_numbers_and_words_do_not_pass_the_guard(tmp_path: Path, said: str, profile: str) -> None:
    rules = (GuardRule(find="cards", instead="…"), GuardRule(find="words", words=("swordfish",), instead="…"))
    spec = Graph(name="guarded", steps=(Step("call_model"),), policy=Policy(guard=rules, profile=profile))
    script = says("The code is ", *said, " today")
    async with upstream(script) as up, serving(tmp_path, (spec, []), models={"main": up.url}) as served:
        answer = read_stream((await served.ask("hi", "/guarded/chat/completions")).body)
    assert answer.text.replace("*", "") == "The code is … today"


@pytest.mark.parametrize("pad", range(240, 320, 3))
def test_a_long_sentence_is_never_cut_inside_a_number(pad: int) -> None:
    rule = Rule(find_cards, "mask", "…")
    text = "word " * (pad // 5) + "x" * (pad % 5) + f" {CARD} and so on " + "word " * 80
    guard = Guard([rule])
    assert "4111" not in in_pieces(guard, text, random.Random(pad)) and "1111" not in text.replace(CARD, "")
    money = text.replace(CARD, "$1,234.50")
    reader = NumberReader()
    assert "hundred thirty four dollars and fifty cents and so on" in in_pieces(
        Numbers(reader), money, random.Random(pad)
    )


async def test_words_in_the_arguments_of_an_action_are_guarded(tmp_path: Path) -> None:
    steps = (Step("call_model", then={"answered": END, "bye": "hangup"}), Step("hangup"))
    spec = Graph(name="guarded", steps=steps, policy=Policy(guard=(GuardRule(find="cards", instead="…"),)))
    tool = {"type": "function", "function": {"name": "end_call", "parameters": {"type": "object"}}}
    script = calls("end_call", '{"message":"Your card 4111 1111 1111 1111 is fine.","code":7}')
    async with upstream(script) as up, serving(tmp_path, (spec, []), models={"main": up.url}) as served:
        body = {"messages": [{"role": "user", "content": "bye"}], "stream": True, "tools": [tool]}
        reply = await served.post("/guarded/chat/completions", body, {"x-dialgraph-profile": "elevenlabs"})
    [called] = read_stream(reply.body).tool_calls
    assert called["arguments"] == '{"message":"Your card … is fine.","code":7}'


@pytest.mark.parametrize("mark", list("_-*~#=`>|[<&\\"))
def test_a_long_run_of_marks_takes_linear_time(mark: str) -> None:
    stage = Speakable()
    began = time.process_time()
    for _ in range(8000):
        stage.push(mark * 4)
    stage.flush()
    assert time.process_time() - began < 2


async def test_thoughts_do_not_prevent_the_filler_or_the_goodbye(tmp_path: Path) -> None:
    steps = (
        Step("acknowledge", options={"say": ["One moment."], "after_ms": 50}),
        Step("call_model", then={"answered": END, "hangup": "hangup"}),
        Step("hangup", options={"say": "Goodbye!"}),
    )
    spec = Graph(name="thinks", steps=steps, policy=Policy(profile="agora"))
    thinking: list[Action] = [("chunk", "<think>"), ("chunk", "Hm."), ("sleep", 0.2), ("chunk", "</think>")]
    async with upstream(
        [*thinking, *says("Yes.")], [*thinking[:2], *thinking[3:], ("chunk", "\n\n"), *calls("hangup")]
    ) as up:
        async with serving(tmp_path, (spec, []), models={"main": up.url}) as served:
            filled = read_stream((await served.ask("hi", "/thinks/chat/completions")).body)
            ended = read_stream((await served.ask("bye", "/thinks/chat/completions")).body)
            blank = [("chunk", "\n\n"), *calls("hangup")]
            up.choose = lambda body: blank
            body = {"messages": [{"role": "user", "content": "bye"}], "stream": True}
            plain = read_stream((await served.post("/hangup/chat/completions", body)).body)
    assert plain.text.strip().endswith("Goodbye!"), "an empty line must not count as a goodbye"
    assert filled.text == "One moment. Yes."
    assert ended.text.strip() == "Goodbye!" and ended.tool_calls

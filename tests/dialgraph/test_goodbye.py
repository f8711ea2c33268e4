"""Forty goodbyes and forty traps (similar sentences that are not goodbyes), in English and Chinese."""

import time

import pytest

from dialgraph.models.goodbye import is_goodbye

PHRASES = """
bye
Bye!
Bye bye.
Goodbye
Good bye, and thanks.
OK, goodbye.
Okay bye, thank you so much
Thanks, bye!
Thank you for your help, goodbye.
That's all, thanks. Bye.
That will be all, thank you.
Great, thanks a lot, see you later.
See you soon!
Talk to you later.
Have a nice day!
Alright, have a great evening. Bye!
No, that's all for today. Thank you, bye-bye.
You can hang up now.
Please end the call.
I have to go now, bye.
再见
再见！
好的，再见。
拜拜
谢谢你，拜拜！
好的谢谢，再见
没有了，谢谢，再见。
那就这样吧，再见
先这样，谢谢
好，那先这样了，拜拜。
没别的事了，挂了吧。
你可以挂断电话了。
请结束通话
我先挂了，谢谢您的帮助
明天见！
回头见
好的，晚安
谢谢，不打扰您了，再见
嗯，好的，bye bye
下次再聊，拜拜
""".strip().splitlines()

TRAPS = """
How do you say goodbye in French?
What does "see you later" mean in German?
Don't hang up!
Please do not end the call yet.
Before I say goodbye, one more question.
My ex said goodbye to me yesterday.
Is "Goodbye Yellow Brick Road" by Elton John?
Can I say bye to my friend who is checking out?
The bus goes by the hotel, right?
Buy one, get one free?
I want to buy a ticket.
Does the call end automatically?
Bye the way, when is breakfast?
Will I see you later at the front desk?
Have a nice day is what the sign said.
Why did you hang up on me earlier?
Goodbye is such a sad word, tell me about it.
What time is it now?
Thanks!
Okay.
再见用英语怎么说？
“拜拜”是什么意思
先别挂电话
不要挂断
在说再见之前，我还有一个问题
他昨天跟我说再见了
再见这首歌是谁唱的
你刚才为什么挂电话？
我明天见客户，早餐几点开始
好的，我明白了
谢谢
不用了，换一个房间吧
就这样订吗？
晚安曲有哪些推荐
我没有别的行李了，可以寄存吗
请帮我挂失房卡
没问题，那早餐几点？
下次再来的话有优惠吗
拜托帮我查一下
我走到酒店要多久
""".strip().splitlines()


def test_there_are_forty_goodbyes_and_forty_traps() -> None:
    assert len(PHRASES) == len(set(PHRASES)) == 40
    assert len(TRAPS) == len(set(TRAPS)) == 40


@pytest.mark.parametrize("text", PHRASES)
def test_a_goodbye_is_recognised(text: str) -> None:
    assert is_goodbye(text)


@pytest.mark.parametrize("text", TRAPS)
def test_a_similar_sentence_is_not_a_goodbye(text: str) -> None:
    assert not is_goodbye(text)


@pytest.mark.parametrize(
    "text", ["谢谢你" * 60 + "请问几点", "thank you thank you " * 9 + "when", "ok bye " * 5000, "好" * 199 + "吃"]
)
def test_a_very_long_text_is_checked_quickly(text: str) -> None:
    began = time.process_time()
    assert not is_goodbye(text)
    assert time.process_time() - began < 5

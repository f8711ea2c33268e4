"""Any client of OpenAI chat completions: nothing is taken for granted, nothing is changed."""

from dialgraph.profiles.profile import Profile

PROFILE = Profile(name="openai", speakable=False, keeps_extras=True)

"""The routes of `/v1` other than completions: accounts, conversations, knowledge bases, usage and health."""

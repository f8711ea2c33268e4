"""The steps, in calls and by themselves."""

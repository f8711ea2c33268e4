"""Tests of the nodes, in calls and alone."""

"""Tests of documents, stores and search."""

"""Makers of the tables and figures in docs/measured."""

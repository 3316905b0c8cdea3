"""Measurements that anyone can run: python -m bench.<name> --help. Each prints a table and writes JSON."""

"""Measurements that anyone can run, `python -m bench.<name> --help`: each prints a table and writes JSON."""

"""The student: a network for phones that learns from a teacher's shards."""

if __name__ == "student":
    from bare_names import alias

    alias(__name__)

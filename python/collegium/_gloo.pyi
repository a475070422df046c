"""Process groups over gloo; may be absent."""

def version() -> str: ...  # the gloo it was compiled against

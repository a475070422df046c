"""The CUDA back end; may be absent. Imports without a driver."""

def device_count() -> tuple[int, int, str]: ...  # devices this process can use, CUDA error code (0: none), its text
def runtime_version() -> int: ...  # 1000 * major + 10 * minor

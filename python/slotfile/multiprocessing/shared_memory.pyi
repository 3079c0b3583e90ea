from ..shared_memory import ShareableList as ShareableList, SharedMemory as SharedMemory

__all__ = ["SharedMemory", "ShareableList"]

"""`slotfile.shared_memory`, where programs look for it."""

from ..shared_memory import SharedMemory, ShareableList

__all__ = ["SharedMemory", "ShareableList"]

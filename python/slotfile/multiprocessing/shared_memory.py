"""`slotfile.shared_memory`, under the name by which programs import it."""

from ..shared_memory import SharedMemory, ShareableList

__all__ = ["SharedMemory", "ShareableList"]

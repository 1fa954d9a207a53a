"""What this program holds of the cards' memory."""

import torch


def allocated_bytes() -> int:
    """Bytes that tensors of this process take on all cards; 0 where no card is in use. May be asked in any thread."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call] # torch leaves it without types
        return 0
    return sum(torch.cuda.memory_allocated(card) for card in range(torch.cuda.device_count()))

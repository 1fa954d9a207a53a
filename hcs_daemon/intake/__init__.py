"""From files on a disk to complete sites: arrival, stability, validation, assembly."""

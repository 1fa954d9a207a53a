"""How each vendor names its files and what its metadata promises; one module a vendor."""

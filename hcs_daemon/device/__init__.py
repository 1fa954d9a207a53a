"""From complete sites to predictions and attributions. The only floor that knows torch."""

"""From labelled wells to a model package."""

"""State that processes share: values, containers, locks."""

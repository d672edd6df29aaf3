"""From a name to models: repositories, adapters, memory, and the authors' checkpoints."""

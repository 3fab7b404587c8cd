"""What tests of every folder share: the solutions of the exercises run after their notebook."""

pytest_plugins = ["tools.notebook_solutions"]

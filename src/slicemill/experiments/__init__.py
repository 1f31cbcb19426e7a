"""What several verbs that compare models need: studies, search spaces, leaks, evaluation."""

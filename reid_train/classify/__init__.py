"""Zero-shot CLIP and prompt learners: recipes, classifiers, tasks and tables."""

"""Methods written once more from their papers, plainly and in float64, to hold trainings against:
numpy or torch's arithmetic and automatic derivatives, and nothing of the project.
"""

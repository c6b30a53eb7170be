"""Who is shown the long past in the stages local and context: the scores, the student, both or neither."""

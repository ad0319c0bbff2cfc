"""``reidpipe figure``: one figure of runs for a paper, and the sentence to print below it."""

"""Pictures of results: ranked lists, label maps, charts and the HTML report."""

"""The dispatcher over HTTP: what OpenAI's clients ask for, answered by the adapter that a query needs."""

"""Files that are whole or not there: the journal, sealed files, folders and their locks. Knows neither program."""

"""From the name of a pipeline to a loaded one."""

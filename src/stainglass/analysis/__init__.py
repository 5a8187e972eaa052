"""What can be read from pictures and expression: nuclei, programmes, components, classes, maps."""

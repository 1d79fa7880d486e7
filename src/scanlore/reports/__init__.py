"""Pictures and pages for people: PCA maps, plots, and reports that are one HTML file."""

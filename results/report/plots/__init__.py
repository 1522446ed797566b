"""The report's plots, a file each: data and layout for plotly.js."""

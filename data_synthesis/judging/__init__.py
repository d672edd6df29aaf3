"""Photographs and text crops: restored, segmented, read by OCR, and judged fit for use or not."""

"""What ``ibd test`` writes down of where a model is wrong: tables, a summary and pictures, in RUN/tested/SPLIT."""

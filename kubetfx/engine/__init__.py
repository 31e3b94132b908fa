"""Beam engines on other machines: their options, the code they are sent, how a job ends, and a doctor."""

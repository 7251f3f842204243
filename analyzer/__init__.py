"""Rates contact-centre calls with the words that show it, and links the ratings to what customers did later."""

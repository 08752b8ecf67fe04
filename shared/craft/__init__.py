"""CRaFT as a service: certainty-represented knowledge flow for refusal-aware tuning."""

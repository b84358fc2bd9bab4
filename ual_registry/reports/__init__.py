"""Reports of many validations as documents that other programs read: JSON, JUnit XML, SARIF."""

"""What sources share: files and archives, lists, windows, generated shapes."""

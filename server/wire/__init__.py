"""The wire: what comes in read tolerantly, what goes out written strictly. Pure: values in, values out."""

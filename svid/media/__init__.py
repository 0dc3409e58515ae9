"""Pictures in, clips out: the only modules that touch Pillow and PyAV."""

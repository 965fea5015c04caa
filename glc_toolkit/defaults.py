"""What is taken where nothing is given. It is here, because the command line's help tells it without PyTorch."""

MODEL = "glc-image-0.03"
VIDEO_MODEL = "glc-video-0.01"
METRICS = ("psnr", "ms-ssim", "lpips-alex", "lpips-vgg", "dists")
MAX_PIXELS = 2**25  # 33 megapixels, which glc-image-0.03@1 decodes in about 5 GB
MAX_GAP = 1024  # frames that a video may lack beyond as many as it has: more would make a short file show for ever
EVAL_FRAMES = 96  # of each clip

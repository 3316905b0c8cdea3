"""Defaults of every command in this folder. To change some, copy this file to config.py beside it and edit the copy.

Settings that config.py leaves out keep the values that they have here. A flag on the command line wins over both.
"auto" depends on the number and size of the frames and on the device; training prints what it chose.
"""

# data and folders; paths are relative to where a command is started
DATA_DIR = ""  # frame/, uv/ and extrinsics/; empty: the sample, made at first use
CHECKPOINT_DIR = "outputs/deferred"  # runs, and where --load looks
LOG_DIR = "outputs/deferred/tensorboard"
TRAIN_SET = ""  # ids: "0-119", "0,4,8-20", a list of them, or a text file; empty: all but the last seventh
VALIDATION_SET = ""  # empty: frames that are not in TRAIN_SET, 20 at most
ALPHA = True  # pixels of frames whose alpha is below 1/2 are no surface
BACKGROUND_UV = "auto"  # uv that is no surface: "0,0", "none", or "auto": a corner that many pixels have

# texture
TEXTURE_W = "auto"
TEXTURE_H = "auto"
TEXTURE_DIM = 16
USE_PYRAMID = True
VIEW_DIRECTION = True

# U-Net
UNET_WIDTH = "auto"
UPSAMPLING = "auto"  # "resize" or "transposed"; the original has the latter

# training
EPOCH = "auto"
BATCH_SIZE = "auto"
CROP_W = "auto"
CROP_H = "auto"
SCALE_AUGMENTATION = True
LEARNING_RATE = "auto"
EPOCH_STEPS = "auto"  # steps that count as an epoch in the schedule of the rates; 0: an epoch of the run
BETAS = "0.9, 0.999"
L2_WEIGHT_DECAY = "auto"  # of the texture's levels, finest first; the original has "0.01, 0.001, 0.0001, 0"
EPS = 1e-8
LOAD = ""
LOAD_STEP = 0
EPOCH_PER_CHECKPOINT = "auto"
PRECISION = "auto"  # 16 bits on a GPU, else float32
NUM_WORKERS = 4  # threads that read ahead
CACHE = "auto"  # GiB of decoded frames; "auto": half of the free memory

# rendering
TEST_LOAD = ""  # empty: the newest run under CHECKPOINT_DIR
TEST_DATA_DIR = ""
TEST_SET = ""  # empty: every frame that has a uv map
SAVE_DIR = "outputs/deferred/render"
OUT_MODE = "image"
FPS = 25.0

# both
DEVICE = "auto"
SEED = 0

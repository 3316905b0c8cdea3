"""What a decoded material is worth: PSNR, SSIM, LPIPS and FLIP per map and LOD, and the 8-bit maps that they score."""

"""Names of ATen operators by what they do."""

_COPIES = """clone contiguous alias detach _unsafe_view lift_fresh_copy copy dropout feature_dropout
alpha_dropout native_dropout unsafe_split unsafe_chunk broadcast_tensors"""
_PRODUCTS = """_int_mm _scaled_mm _scaled_mm_v2 _weight_int8pack_mm _weight_int4pack_mm
_weight_int4pack_mm_for_cpu _weight_int4pack_mm_with_scales_and_zeros _dyn_quant_matmul_4bit
_mixed_dtypes_linear mkldnn_linear"""
_GROUPED = """_grouped_mm grouped_mm grouped_mm_fallback _scaled_grouped_mm _scaled_grouped_mm_v2"""
_ATTENTION = """flex_attention _scaled_dot_product_flash_attention_for_cpu
_scaled_dot_product_fused_attention_overrideable"""
_ATTENTION_OF_ROWS = "_flash_attention_forward _efficient_attention_forward _flash_attn_forward"
_MATRIX_VECTOR = "linear mm addmm _addmm_activation mv addmv matmul dot vdot"
_REDUCTIONS = """mean sum amax amin max min argmax argmin std var prod any all norm
linalg_vector_norm logsumexp var_mean std_mean aminmax count_nonzero median nanmedian nanmean nansum
trace sort argsort topk msort kthvalue mode histc quantile nanquantile linalg_norm
linalg_matrix_norm _weight_norm"""
_SCANS = "cumsum cumprod logcumsumexp cummax cummin"
_MOVES = """cat stack pad constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d
replication_pad1d replication_pad2d replication_pad3d upsample_nearest1d upsample_nearest2d
upsample_nearest3d index gather index_select take take_along_dim scatter scatter_add scatter_reduce
index_put index_add index_copy index_fill masked_scatter select_scatter slice_scatter
diagonal_scatter roll flip rot90 repeat tile repeat_interleave pixel_shuffle pixel_unshuffle
channel_shuffle im2col one_hot tril triu block_diag meshgrid full full_like zeros zeros_like ones
ones_like empty empty_like arange new_zeros new_ones new_full new_empty scalar_tensor
eye linspace diag diag_embed diagflat fliplr flipud fft_fftshift fft_ifftshift zero"""
_PER_ELEMENT = """_to_copy to type_as where masked_fill bucketize searchsorted glu col2im
affine_grid_generator upsample_linear1d upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d
_upsample_bilinear2d_aa _upsample_bicubic2d_aa grid_sampler grid_sampler_2d grid_sampler_3d rand
randn rand_like randn_like randint bernoulli multinomial view_as_complex view_as_real complex polar
einsum cross diff rsub outer kron addr linalg_cross isin
fill hardswish prelu log_sigmoid floor_divide __and__ __or__ __xor__ special_expit real imag conj
isclose absolute negative multiply subtract divide cosine_similarity pairwise_distance dist
fake_quantize_per_tensor_affine fake_quantize_per_channel_affine quantize_per_tensor dequantize"""

COPIES = frozenset(_COPIES.split())
PRODUCTS = frozenset(f"{_PRODUCTS} {_GROUPED}".split())
ATTENTION = frozenset(_ATTENTION.split())
ATTENTION_OF_ROWS = frozenset(_ATTENTION_OF_ROWS.split())
MATRIX_VECTOR = frozenset(f"{_MATRIX_VECTOR} {_PRODUCTS}".split())
REDUCTIONS = frozenset(_REDUCTIONS.split())
SCANS = frozenset(_SCANS.split())
MOVES = frozenset(_MOVES.split())
PER_ELEMENT = frozenset(_PER_ELEMENT.split())
FAMILIES = (
    "batch_norm",
    "layer_norm",
    "group_norm",
    "instance_norm",
    "rms_norm",
    "softmax",
    "pool",
    "embedding",
)
"""Parts of names that tell what an operator does."""
NOT_FUSED = frozenset({"cat", "stack", "index", "gather", "cond", "map_impl", "scan"})
